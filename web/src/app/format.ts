// Numbers, times and names as people read them.

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/** 1234567 as "1.2 MB". */
export function bytes(count: number): string {
  let unit = 0;
  while (count >= 999.5 && unit < UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count < 9.95 && unit > 0 ? count.toFixed(1).replace(/\.0$/, "") : Math.round(count)} ${UNITS[unit]}`;
}

/** "1.2 of 20 GB": the unit is said once where it is the same. */
export function bytesOf(part: number, whole: number): string {
  const [a, b] = [bytes(part), bytes(whole)];
  const unit = b.split(" ")[1] ?? "";
  return `${a.endsWith(` ${unit}`) ? a.slice(0, -unit.length - 1) : a} of ${b}`;
}

/** "1 photo", "12 photos". */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;
}

/** Seconds as "about 3 min left". */
export function timeLeft(seconds: number): string {
  if (seconds < 1) return "almost done";
  if (seconds < 60) return `about ${Math.ceil(seconds)} s left`;
  if (seconds < 3600) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${(seconds / 3600).toFixed(1).replace(/\.0$/, "")} h left`;
}

/** Seconds as "3 min 5 s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [["minute", 60], ["hour", 3600], ["day", 86400], ["week", 604800]];

/** A moment as "3 hours ago", or its date when that is long ago. */
export function age(time: string, now = Date.now()): string {
  const seconds = (now - Date.parse(time)) / 1000;
  if (seconds < 45) return "just now";
  if (seconds > 5 * 604800) return date(time);
  const [unit, length] = STEPS.filter(([, length]) => seconds >= length * 0.75).at(-1) ?? ["minute", 60];
  return RELATIVE.format(-Math.max(1, Math.round(seconds / length)), unit);
}

/** A moment as a date. */
export function date(time: string): string {
  return new Date(time).toLocaleDateString("en-US", { year: "numeric", month: "short", day: "numeric" });
}

/** A moment of this year as a name. */
export function shortDateAndTime(time: number): string {
  return new Date(time).toLocaleString("en-US", { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
}

/** A moment as date and time. */
export function dateAndTime(time: string): string {
  return new Date(time).toLocaleString("en-US", { dateStyle: "medium", timeStyle: "short" });
}

/** The name of a scene: the server's is that of its GLB. */
export function sceneName(name: string): string {
  return name.replace(/\.glb$/i, "") || "Unnamed scene";
}

/** What a program says as a sentence: a capital at the beginning and a period at the end. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  const begun = /^[a-z]+\.[a-z]/.test(trimmed) ? trimmed : trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** Compares file names as the server does: numbers by their value, letters without regard to case. */
export function natural(a: string, b: string): number {
  const parts = (name: string): string[] => name.toLowerCase().match(/\d+|\D/gu) ?? [];
  const [as, bs] = [parts(a), parts(b)];
  for (let i = 0; i < Math.min(as.length, bs.length); i++) {
    const [x, y] = [as[i]!, bs[i]!];
    if (x === y) continue;
    if (/^\d/.test(x) && /^\d/.test(y)) {
      const [u, v] = [x.replace(/^0+/, ""), y.replace(/^0+/, "")];
      if (u !== v) return u.length - v.length || (u < v ? -1 : 1);
    } else return x < y ? -1 : 1;
  }
  return as.length - bs.length || (a < b ? -1 : a > b ? 1 : 0);
}
