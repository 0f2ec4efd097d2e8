"""USDZ files, by Pixar's own library (package usd-core)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from stages.contract.srgb import srgb_to_linear
from stages.export.model import Corners, Model

ROUGHNESS = 0.8
"""As in the .glb files."""


def usdz(model: Model) -> bytes:
    """The .usdz file of a model, y up, in metres. Raises ImportError without the package."""
    from pxr import Sdf, Usd, UsdGeom, UsdUtils

    corners = Corners(model)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        layer = str(folder / "object.usdc")
        stage = Usd.Stage.CreateNew(layer)
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        root = UsdGeom.Xform.Define(stage, "/object")
        stage.SetDefaultPrim(root.GetPrim())
        mesh = _mesh(stage, corners)
        if model.uv is not None:
            (folder / "color.png").write_bytes(model.color_png)
        _material(stage, mesh, model)
        stage.Save()
        package = folder / "object.usdz"
        if not UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(layer), str(package)):
            raise ValueError("usd-core could not make the package")
        return package.read_bytes()


def _mesh(stage: Any, corners: Corners) -> Any:
    from pxr import Sdf, UsdGeom, Vt

    mesh = UsdGeom.Mesh.Define(stage, "/object/mesh")
    points = np.ascontiguousarray(corners.vertices)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    mesh.CreateExtentAttr(
        Vt.Vec3fArray.FromNumpy(np.stack([points.min(axis=0), points.max(axis=0)]))
    )
    faces = np.ascontiguousarray(corners.faces, np.int32)
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.reshape(-1)))
    normals = np.ascontiguousarray(corners.normals, np.float32)
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(normals))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    values = UsdGeom.PrimvarsAPI(mesh)
    if corners.model.uv is not None:
        upward = np.stack([corners.uv[:, 0], 1.0 - corners.uv[:, 1]], axis=1)
        upward = np.ascontiguousarray(upward, np.float32)
        kind = Sdf.ValueTypeNames.TexCoord2fArray
        values.CreatePrimvar("st", kind, UsdGeom.Tokens.vertex).Set(Vt.Vec2fArray.FromNumpy(upward))
    elif corners.colors is not None:
        linear = np.ascontiguousarray(srgb_to_linear(corners.colors / 255.0), np.float32)
        mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(Vt.Vec3fArray.FromNumpy(linear))
    return mesh


def _material(stage: Any, mesh: Any, model: Model) -> None:
    """A UsdPreviewSurface that takes its colour from the texture or from the vertices."""
    from pxr import Sdf, UsdShade

    kinds = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, "/object/material")
    surface = UsdShade.Shader.Define(stage, "/object/material/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("roughness", kinds.Float).Set(ROUGHNESS)
    surface.CreateInput("metallic", kinds.Float).Set(0.0)
    color = surface.CreateInput("diffuseColor", kinds.Color3f)
    if model.uv is not None or model.colors is not None:
        reader = UsdShade.Shader.Define(stage, "/object/material/reader")
        name, width = ("st", 2) if model.uv is not None else ("displayColor", 3)
        reader.CreateIdAttr(f"UsdPrimvarReader_float{width}")
        reader.CreateInput("varname", kinds.String).Set(name)
        kind = kinds.Float2 if width == 2 else kinds.Float3
        read = reader.CreateOutput("result", kind)
        if model.uv is not None:
            texture = UsdShade.Shader.Define(stage, "/object/material/texture")
            texture.CreateIdAttr("UsdUVTexture")
            texture.CreateInput("file", kinds.Asset).Set(Sdf.AssetPath("./color.png"))
            texture.CreateInput("sourceColorSpace", kinds.Token).Set("sRGB")
            texture.CreateInput("st", kinds.Float2).ConnectToSource(read)
            for side in ("wrapS", "wrapT"):
                texture.CreateInput(side, kinds.Token).Set("repeat")
            read = texture.CreateOutput("rgb", kinds.Float3)
        color.ConnectToSource(read)
    material.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
