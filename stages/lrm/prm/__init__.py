"""PRM, the large reconstruction model of Kiss3DGen: four views in, a coloured mesh out."""
