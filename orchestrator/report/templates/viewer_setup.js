// Behind trimesh's viewer, whose `scene`, `renderer`, `tracklight` and `render` are global.
(() => {
  if (typeof renderer === "undefined" || !renderer) {
    document.body.style.cssText = "font: 16px/1.4 system-ui, sans-serif; margin: 1em; color: gray";
    document.body.textContent =
      "This browser has no WebGL, so there is no 3D view. mesh.glb opens in any 3D program.";
    return;
  }
  // glTF's colours are linear light.
  renderer.outputEncoding = THREE.sRGBEncoding;
  tracklight.intensity = 0.6;
  scene.add(new THREE.AmbientLight(0xffffff, 0.5));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    scene.background.set(dark.matches ? 0x22262c : 0xf1f1ee);
    if (camera) render();
  };
  dark.addEventListener("change", paint);
  paint();
})();
