"""The validation system: its primary, and the validators that vote."""
