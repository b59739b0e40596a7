"""How the papers trained, on real pictures: one script per paper."""
