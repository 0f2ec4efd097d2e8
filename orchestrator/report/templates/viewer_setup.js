// Behind trimesh's viewer, whose `scene`, `renderer`, `tracklight`, `camera`, `onWindowResize`
// and `render` are global.
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
  // The mesh's camera has a vertical field of view that sees all of the mesh, however it is turned.
  // In a frame that is higher than wide the horizontal one has to be as large.
  let field;
  const resize = onWindowResize;
  onWindowResize = () => {
    field ??= Math.tan(THREE.MathUtils.degToRad(camera.fov) / 2);
    const narrow = Math.min(1, window.innerWidth / window.innerHeight);
    camera.fov = 2 * THREE.MathUtils.radToDeg(Math.atan(field / narrow));
    resize();
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    scene.background.set(dark.matches ? 0x22262c : 0xf1f1ee);
    if (camera) render();
  };
  dark.addEventListener("change", paint);
  paint();
})();
