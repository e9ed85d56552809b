// What the page's parts share.

/** The element of an id. */
export const $ = (id) => document.getElementById(id);

/** An element: its tag, its properties (`dataset`, `style` and attributes with a hyphen too), and what lies in it. Texts stay texts. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** A context to draw in. Throws where the browser gives none. */
export function context2d(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser gives no canvas to draw on");
  return context;
}

/** One image of shades (H, W, C) on a canvas of its own size. */
export function paint(canvas, shades, { width, height, channels }) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let k = 0; k < width * height; k++) {
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = shades[k * channels + (channels >= 3 ? c : 0)];
    image.data[4 * k + 3] = 255;
  }
  context2d(canvas).putImageData(image, 0, 0);
}

/** Give the reader a file. */
export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
