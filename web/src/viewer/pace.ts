// How many points are drawn while the view moves: as many as keep it smooth on this machine, which only measuring tells.

/** The longest time between two pictures that passes as smooth, and the time below which more can be drawn, in ms. */
const SLOW = 45;
const FAST = 28;
const FEWEST = 10_000;
/** Few enough for drawing by software; a graphics card has all of them after some pictures. */
const AT_FIRST = 200_000;
const GROWTH = 1.25;
/** Longer gaps are those of a hidden tab or of work beside drawing. */
const GAP = 3000;
/** So many pictures after a rest or a change are still of what was before, since drawing is behind. */
const BEHIND = 2;

export class Pace {
  /** Points per picture. */
  budget = AT_FIRST;
  /** Pictures in a second, lately. */
  rate = 0;
  private last: number | null = null;
  private skipped = 0;

  /** A moving picture was drawn at `now`, of `drawn` points out of `available`. */
  moved(now: number, drawn: number, available: number): void {
    const passed = this.last === null ? 0 : now - this.last;
    this.last = now;
    this.skipped += 1;
    if (this.skipped <= BEHIND || passed <= 0 || passed > GAP) return;
    this.rate = this.rate ? 0.8 * this.rate + 0.2 * (1000 / passed) : 1000 / passed;
    if (passed > SLOW && drawn > FEWEST) {
      this.budget = Math.max(FEWEST, Math.round(0.95 * drawn * Math.max(0.1, SLOW / passed)));
      this.skipped = 0;
    } else if (passed < FAST && this.budget < available) {
      this.budget = Math.min(available, Math.round(GROWTH * this.budget));
      if (drawn > FEWEST) this.skipped = BEHIND - 1;
    }
  }

  /** What was drawn was not part of a movement, so the next time says nothing. */
  rested(): void {
    this.last = null;
    this.skipped = 0;
  }
}
