"""How neurons move: what every level asks of a network, and what the text of a circuit answers."""
