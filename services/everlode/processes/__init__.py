"""The processes of a region, put together from their parts: the one composition root."""
