// What people drop or choose: files and folders, of which photos or one video are taken.

import { counted, natural } from "./format";

/** A photo or video that was chosen. */
export interface Item {
  id: number;
  file: File;
  isVideo: boolean;
}

const PHOTOS = /\.(jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|hei[cf]|hif|avif|mpo|dng|cr[23]|nef|nrw|arw|sr2|raf|rw2|orf|pef|srw)$/i;
const VIDEOS = /\.(mp4|m4v|mov|mkv|webm|avi|ts|mts|m2ts|3gp|mpe?g|wmv|flv|ogv)$/i;
/** What the file dialog offers. Some systems do not know that HEIC is an image. */
export const ACCEPT = "image/*,video/*,.heic,.heif,.hif,.avif,.dng,.mkv,.mts";
/** Files that cameras and systems put beside photos, of which nothing is said. */
const COMPANIONS = /(^\.|\.(xmp|aae|thm|pp3|db|ini|lrv)$)/i;

export const isVideo = (file: File) => VIDEOS.test(file.name) || file.type.startsWith("video/");
export const isPhoto = (file: File) => PHOTOS.test(file.name) || (file.type.startsWith("image/") && file.type !== "image/svg+xml");

/** Photos and videos of files, and what is to be said of the others. */
export interface Sorted {
  items: Item[];
  notes: string[];
}

let ids = 0;

/** Adds files to those that are there already: photos, or one video, in natural order of their names. */
export function add(to: Item[], files: File[], inOrder = true): Sorted {
  const notes: string[] = [];
  const usable = files.filter((file) => (isPhoto(file) || isVideo(file)) && file.size > 0 && !file.name.startsWith("."));
  const others = files.filter((file) => !usable.includes(file) && !COMPANIONS.test(file.name));
  if (others.length > 0) {
    const named = others.slice(0, 3).map((file) => file.name).join(", ");
    const more = others.length > 3 ? ` and ${others.length - 3} more` : "";
    notes.push(`Left out, since they are not photos or videos: ${named}${more}.`);
  }
  const same = (a: File, b: File) => a.name === b.name && a.size === b.size && a.lastModified === b.lastModified;
  let fresh = usable.filter((file) => !to.some((item) => same(item.file, file)));
  if (fresh.length < usable.length) notes.push(`${counted(usable.length - fresh.length, "file was", "files were")} chosen already.`);
  if (inOrder) fresh.sort((a, b) => natural(path(a), path(b)));

  const videos = fresh.filter(isVideo);
  const photos = fresh.filter((file) => !isVideo(file));
  const [hasVideo, hasPhotos] = [to.some((item) => item.isVideo), to.some((item) => !item.isVideo)];
  if (hasVideo && fresh.length > 0) {
    notes.push("A scene is made of one video or of photos, not of both. Remove the video first to use other files.");
    fresh = [];
  } else if (videos.length > 0 && (hasPhotos || photos.length > 0)) {
    notes.push("A scene is made of one video or of photos, not of both: the photos were taken. For the video, remove the photos first.");
    fresh = photos;
  } else if (videos.length > 1) {
    notes.push(`A scene is made of one video: ${videos[0]!.name} was taken.`);
    fresh = videos.slice(0, 1);
  }
  const items = fresh.map((file) => ({ id: (ids += 1), file, isVideo: isVideo(file) }));
  return { items: [...to, ...items], notes };
}

const path = (file: File) => file.webkitRelativePath || paths.get(file) || file.name;

/** Paths of files that came out of a dropped folder, which browsers do not keep in the file. */
const paths = new WeakMap<File, string>();

/** Reads what was dropped, folders and what is in them too. */
export async function dropped(data: DataTransfer): Promise<{ files: File[]; folder: string | null }> {
  // Both lists are empty after the first wait.
  const entries = [...data.items].map((item) => (item.kind === "file" ? (item.webkitGetAsEntry?.() ?? null) : null));
  const plain = [...data.files];
  const there = entries.filter((entry) => entry !== null);
  if (there.length === 0) return { files: plain, folder: null };
  const files: File[] = [];
  for (const entry of there) await collect(entry, files);
  const folders = there.filter((entry) => entry.isDirectory);
  return { files, folder: folders.length === 1 ? folders[0]!.name : null };
}

async function collect(entry: FileSystemEntry, into: File[]): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    paths.set(file, entry.fullPath);
    into.push(file);
    return;
  }
  if (!entry.isDirectory) return;
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // A reader gives 100 entries at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const each of some) await collect(each, into);
  }
}

/** Bytes of all of them. */
export const totalBytes = (items: { file: File }[]) => items.reduce((sum, { file }) => sum + file.size, 0);

export const byName = (a: Item, b: Item) => natural(path(a.file), path(b.file));
export const byTime = (a: Item, b: Item) => a.file.lastModified - b.file.lastModified || byName(a, b);
