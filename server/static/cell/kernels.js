// Which kernel a cell has: one for itself, begun anew for each run, or one that it shares with others.

import { Kernel } from "./kernel.js";
import { specOf } from "./languages.js";

export class Kernels {
  #shared = new Map();
  #own = new Map();

  /** `isLinked`: whether cells share a kernel, one for each kernelspec. */
  constructor(isLinked) {
    this.isLinked = isLinked;
  }

  /** The kernel for a cell, begun if there is none. A run in a kernel of its own gets one in which nothing ran before. */
  async get(cell, language, isRun) {
    const spec = specOf(language);
    const [kernels, key] = this.isLinked ? [this.#shared, spec] : [this.#own, cell];
    const known = await kernels.get(key)?.catch(() => null);
    const isFit = known && !known.isDead && known.spec === spec && (this.isLinked || !isRun || !known.isUsed);
    if (isFit) return known;
    if (known) await known.end();
    // Somebody else may have waited as well, and been faster.
    const other = kernels.get(key);
    if (other && (await other.catch(() => null)) !== known) return this.get(cell, language, isRun);
    const starting = new Kernel(spec, this.isLinked).start();
    kernels.set(key, starting);
    starting.catch(() => kernels.delete(key));
    return starting;
  }

  /** Ends what cells share. */
  async restart() {
    const all = [...this.#shared.values()];
    this.#shared.clear();
    for (const one of all) await one.then((kernel) => kernel.end(), () => {});
  }

  /** A cell goes, and its kernel with it. */
  async leave(cell) {
    const own = this.#own.get(cell);
    this.#own.delete(cell);
    await own?.then((kernel) => kernel.end(), () => {});
  }
}
