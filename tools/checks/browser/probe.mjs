// What the graphics card is given: runs in a page before its own scripts.

/** Puts itself between the page and WebGL. `window.probe` then has the points as they were sent, and the draws. */
export function installProbe() {
  const probe = { block: null, pointers: {}, draws: [], violations: [], blobs: [] };
  Object.defineProperty(window, "probe", { value: probe });
  document.addEventListener("securitypolicyviolation", (event) =>
    probe.violations.push(`${event.violatedDirective}: ${event.blockedURI}`),
  );
  const { createObjectURL } = URL;
  URL.createObjectURL = (blob) => {
    probe.blobs.push(blob);
    return createObjectURL.call(URL, blob);
  };

  const card = WebGL2RenderingContext.prototype;
  const names = new WeakMap();
  const values = {};
  const around = (name, before) => {
    const original = card[name];
    card[name] = function (...args) {
      const result = original.apply(this, args);
      before.call(this, args, result);
      return result;
    };
  };
  around("getUniformLocation", ([, name], location) => location && names.set(location, name));
  around("uniformMatrix4fv", ([location, , value]) => (values[names.get(location)] = Array.from(value)));
  around("uniform1ui", ([location, value]) => (values[names.get(location)] = value));
  // Three binds the block as words of 32 bits.
  around("bufferData", ([target, data]) => {
    if (target === card.ARRAY_BUFFER && data instanceof Uint32Array) probe.block = data.slice();
  });
  around("vertexAttribIPointer", ([, size, type, stride, offset]) => (probe.pointers[offset] = [size, type, stride]));
  const drawn = (mode, count) => probe.draws.push({ mode, count, clip: values.clip_from_world, threshold: values.threshold });
  around("drawArrays", ([mode, , count]) => drawn(mode, count));
  around("drawElements", ([mode, count]) => drawn(mode, count));
}
