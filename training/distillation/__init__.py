"""Knowledge distillation: a small model that learns from a large one's answers as well as from the targets."""
