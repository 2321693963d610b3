"""One trial: criteria, anchors, replicated backbones, benchmarks and evaluators."""
