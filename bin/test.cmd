@py -3 "%~dp0test" %*
