"""The projector: facts in, rows and state records out; in bulk first, then live with Faust."""
