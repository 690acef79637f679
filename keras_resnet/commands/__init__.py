"""What each command takes and calls. Nothing but the table is imported before it is needed."""
