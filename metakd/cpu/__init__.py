"""All that exists for speed on a CPU. Without it (`training.cpu_tuning: off`) stock PyTorch computes the same losses.

`tuning.tune` prepares a model for training or inference, `tuning.tune_process` a process;
`teacher_cache.cache_features` caches a stage's teacher. experiments/benchmarks/NOTES.md says what each part is worth.
"""
