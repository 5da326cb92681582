"""Who gets the work: two choices by load, trust, health and speciality; who is ejected."""
