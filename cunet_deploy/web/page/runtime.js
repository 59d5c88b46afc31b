/**
 * Load onnxruntime-web, from this site or from a content delivery network with checksums.
 */

/**
 * @param {{base: string, files: Record<string, string>}} runtime where its files are, and what their checksums must be
 *     (empty: they come from this site)
 * @returns {Promise<any>} the module
 */
export async function loadRuntime({ base, files }) {
  const [main, loader, binary] = Object.keys(files);
  const foreign = Boolean(files[main]);
  const ort = await import(foreign ? await verified(base + main, files[main]) : new URL(base + main, document.baseURI).href);
  ort.env.wasm.wasmPaths = foreign
    ? { mjs: await verified(base + loader, files[loader]), wasm: await verified(base + binary, files[binary]) }
    : new URL(base, document.baseURI).href;
  return ort;
}

/**
 * A local address of a file whose checksum is the expected one.
 * @param {string} url @param {string} integrity
 */
async function verified(url, integrity) {
  const response = await fetch(url, { integrity, mode: "cors" }).catch(() => null);
  if (!response?.ok) throw new Error(`${url} cannot be loaded, or is not the expected file. Are you offline?`);
  return URL.createObjectURL(await response.blob());
}
