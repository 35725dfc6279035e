// How many points are drawn while the view moves: as many as keep it smooth on this machine, which only measuring tells.

/** Longest time between two pictures that passes as smooth, and the time below which there is room for more, in ms. */
const SLOW = 45;
const FAST = 28;
const FEWEST = 20_000;
const AT_FIRST = 1_000_000;
/** Longer gaps are those of a hidden tab or of work beside drawing. */
const GAP = 1500;
/** After a rest the first pictures take longer: the one at rest before them may not be done, and shaders may be compiled. */
const SKIPPED = 2;

export class Pace {
  /** Points per picture. */
  budget = AT_FIRST;
  /** Pictures in a second, lately. */
  rate = 0;
  private last: number | null = null;
  private pictures = 0;

  /** A moving picture was drawn at `now`, of `drawn` points out of `available`. */
  moved(now: number, drawn: number, available: number): void {
    const passed = this.last === null ? 0 : now - this.last;
    this.last = now;
    this.pictures += 1;
    if (this.pictures <= SKIPPED || passed <= 0 || passed > GAP) return;
    this.rate = this.rate ? 0.8 * this.rate + 0.2 * (1000 / passed) : 1000 / passed;
    // Both are a bit off each time, so the steps are small and down is quicker than up.
    if (passed > SLOW) this.budget = Math.max(FEWEST, drawn * Math.max(0.5, SLOW / passed) * 0.95);
    else if (passed < FAST && this.budget < available) this.budget = Math.min(available, Math.max(this.budget, drawn) * 1.15);
  }

  /** What was drawn was no part of a movement, so the next time says nothing. */
  rested(): void {
    this.last = null;
    this.pictures = 0;
  }
}
