"""Measurements that anybody can repeat: contenders take turns in one process."""
