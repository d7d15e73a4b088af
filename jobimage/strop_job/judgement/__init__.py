"""The judgement: what was measured is held against what was asked. Pure; measures and publishes nothing."""
