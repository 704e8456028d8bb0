#!/bin/sh
# `make chat`: without IMAGE and Q a picture of examples/ is asked about; with IMAGE alone a terminal
# gets a conversation, and anything else the usual question.
set -eu

tessera=$VENV/bin/tessera
if [ -n "$IMAGE" ] && [ -z "$Q" ] && [ -t 0 ] && [ -t 1 ]; then
    exec "$tessera" chat "$IMAGE"
fi
image=${IMAGE:-$EXAMPLE}
question=${Q:-$QUESTION}
printf '%s\n> %s\n' "$image" "$question" >&2
exec "$tessera" chat "$image" "$question"
