"""What bench_oneshot.py is made of: data by any names, accuracy per sample, ways to prune to a share of MACs."""
