"""Pictures of meshes as tensors, differentiable in what they show and where it is. Imports torch.

views = Views(cameras, size, rasterizer, device)
visible = views.look(vertices, faces)                      which face each pixel shows
samples = sample(views.to_clip(vertices), faces, visible)  where on that face
image = antialias(samples.fill(values, 0.0), visible, clip, faces, across)
"""
