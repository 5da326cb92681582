"""One file that says what a network is, and the way from what runs to what it says."""
