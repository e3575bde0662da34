"""What benches measure."""
