"""Open each file of a folder and print, as JSON, what came of it and how far memory grew.

Run as its own process, so that peak memory is that of opening and of nothing else.
"""

import json
import sys
import time
from pathlib import Path

from tessera.errors import ImageError
from tessera.processing.image import open_image
from tests.attacks.make_pictures import seeds
from tests.attacks.run_pictures import forget_peak, peak_mib


def main(folder: Path) -> None:
    for _, data in seeds():
        open_image(data)  # loads every decoder, so that only the bombs count below
    outcomes = {}
    for path in sorted(folder.iterdir()):
        forget_peak()
        before, start = peak_mib(), time.process_time()
        try:
            outcome = f"opened {open_image(path).size}"
        except ImageError as error:
            outcome = f"refused: {error}"
        except Exception as error:
            outcome = f"unexpected {type(error).__name__}"
        outcomes[path.name] = (outcome, peak_mib() - before, time.process_time() - start)
    sys.stdout.write(json.dumps(outcomes))


main(Path(sys.argv[1]))
