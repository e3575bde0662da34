"""Load on a server: clips, the way they are asked for, when they are due, locust users that send them."""
