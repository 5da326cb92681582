"""What operators ask of a running network, for the command and the HTTP face."""
