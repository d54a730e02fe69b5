"""What the commands that look have to say: of protocols, traces, models, and all that ships."""
