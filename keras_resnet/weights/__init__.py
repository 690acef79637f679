"""Weights in and out of models."""
