"""How weights move: a batch through the phases of a presentation, and what the rules make of it."""
