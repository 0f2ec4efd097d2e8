@py -3 "%~dp0kiss3d-orchestrate" %*
