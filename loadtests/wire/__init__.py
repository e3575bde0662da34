"""What a clip costs on its way: forms of the wire, sizes and callers, with stages that answer at once."""
