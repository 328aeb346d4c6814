"""How a daemon lives: start, signals, logs, metrics, its admin socket, and following the store."""
