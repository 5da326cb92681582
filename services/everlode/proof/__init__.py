"""The independent check of what was acknowledged: it shares no code with what it checks."""
