"""Fine-tuning: packing, loss, jobs, checkpoints and the loop."""
