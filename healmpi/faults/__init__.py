"""What goes wrong: who is hit when (plan), what it does to them (kinds), and the boundary at which it takes effect (doors)."""
