"""Fine-tuning: packing, room, jobs, checkpoints, steps and the loop."""
