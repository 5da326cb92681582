"""The provider of one machine with a container engine: `docker compose`, and a file made for it."""
