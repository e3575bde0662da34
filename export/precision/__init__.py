"""Narrow types: which parts of a graph bear float16, bfloat16 or int8, and what each costs."""
