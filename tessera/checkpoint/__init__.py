"""Names and files of published checkpoints: no module, no processing, nothing in them is executed.

`values` reads untrusted JSON, `released_config` and `names` translate config.json and weight keys
both ways, `stored` parses safetensors headers, `files` fills and `saving` writes weights, `loader`
joins a directory and a model class that is handed in, `hub` fetches a directory.
"""
