"""Options of `glowjax train glow_digits` for a run of seconds."""

OPTIONS = {
    "model.levels": 1,
    "model.steps": 1,
    "model.width": 4,
    "data.transform.crop": 4,
    "data.transform.shift": 0.25,
    "batch-size": 8,
    "evaluate-samples": 1,
    "sample-count": 4,
}
