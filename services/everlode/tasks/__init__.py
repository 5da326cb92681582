"""Task managers: take tasks in, assign them, follow their leases."""
