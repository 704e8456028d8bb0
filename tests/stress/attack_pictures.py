"""Attack the picture reader with N damaged pictures and print one JSON line.

python -m tests.stress.attack_pictures [COUNT] [FIRST]    a million by default, from attack 0
"""

import json
import sys
import time

from tests.attacks.make_pictures import seeds
from tests.attacks.run_pictures import attack, peak_mib


def main(count: int = 1_000_000, first: int = 0) -> int:
    start = time.perf_counter()
    attack(range(len(seeds())))  # loads every decoder
    before = peak_mib()
    account = attack(range(first, first + count))
    line = {
        "test": "attack_pictures",
        "first": first,
        "tried": account.tried,
        "opened": account.opened,
        "refused": account.refused,
        "unexpected": len(account.unexpected),
        "unexpected_first": account.unexpected[:5],
        "slowest_cpu_s": round(account.slowest_s, 4),
        "slowest": account.slowest,
        "peak_growth_mib": round(peak_mib() - before, 1),
        "wall_s": round(time.perf_counter() - start, 1),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return 1 if account.unexpected else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
