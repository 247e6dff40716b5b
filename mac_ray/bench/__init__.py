"""What a config costs, by arithmetic and by the clock; `python -m mac_ray.bench`."""
