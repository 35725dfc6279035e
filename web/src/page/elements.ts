// What the elements of a page hold.
import { PageError } from "../viewer/errors";
import { need } from "../viewer/glb";

/** So often the browser may draw while the page reads, in ms. */
const PAUSE = 100;

/**
 * The bytes that the elements of a class hold together, in base64. `lengthOf` tells their number from the first piece. Each element is
 * removed once it is read, so that text and bytes are never there both in full. `tell` hears the share that is done.
 */
export async function takeBytes(
  className: string,
  lengthOf: (first: string, pieces: number) => number,
  tell: (share: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const elements = [...document.querySelectorAll(`script.${className}`)];
  need(elements.length > 0, "it is not there, as if the file had been cut off");
  let bytes: Uint8Array<ArrayBuffer> | null = null;
  let end = 0;
  let paused = Date.now();
  for (const element of elements) {
    const text = decode(element.textContent ?? "");
    bytes ??= allocate(lengthOf(text, elements.length));
    for (let i = 0; i < text.length; i++) bytes[end + i] = text.charCodeAt(i);
    end += text.length;
    element.remove();
    if (Date.now() - paused > PAUSE) {
      tell(end / bytes.length);
      await new Promise((resolve) => setTimeout(resolve));
      paused = Date.now();
    }
  }
  need(end === bytes?.length, `it has ${end} bytes instead of ${bytes?.length ?? 0}, as if the file had been cut off`);
  return bytes;
}

function decode(text: string): string {
  try {
    return atob(text);
  } catch {
    return need(false, "its text is not base64") as never;
  }
}

/** How long the GLB is that begins with `head`: its header tells. */
export function glbLength(head: string): number {
  need(head.length >= 12 && head.startsWith("glTF"), "it does not begin as a GLB");
  return new DataView(Uint8Array.from(head.slice(8, 12), (c) => c.charCodeAt(0)).buffer).getUint32(0, true);
}

function allocate(length: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch {
    throw new PageError(
      `This browser has no memory for the ${Math.ceil(length / 1e6)} MB in this page. Fewer points need less: vggt export --max-points.`,
    );
  }
}

/** The confidence of each point; undefined where the page does not have it. */
export function takeConfidence(): Uint8Array | undefined {
  const elements = [...document.querySelectorAll("script.confidence")];
  if (elements.length === 0) return undefined;
  const parts = elements.map((element) => {
    const text = decode(element.textContent ?? "");
    element.remove();
    return Uint8Array.from(text, (c) => c.charCodeAt(0));
  });
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}
