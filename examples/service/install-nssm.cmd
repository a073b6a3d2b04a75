@echo off
rem A worker as a Windows service, by NSSM. Run it once, as administrator, in the folder of agent.py.
rem The service stops with Ctrl+C, which drains: give it longer than the drain timeout (75 s here).
setlocal
set NAME=useragent
rem Without the dot the folder would end in a backslash, and that would hide the quote after it.
set "HERE=%~dp0."
rem The service's PATH is not yours: it gets Python's full name.
for /f "delims=" %%P in ('python -c "import sys; print(sys.executable)"') do set "PYTHON=%%P"
nssm install %NAME% "%PYTHON%" -m user_agent_sdk run agent.py -w 4 -r --drain-timeout 60
nssm set %NAME% AppDirectory "%HERE%"
nssm set %NAME% AppStopMethodConsole 75000
nssm set %NAME% AppStopMethodSkip 14
nssm set %NAME% AppStderr "%HERE%\useragent.log"
nssm set %NAME% AppRotateFiles 1
nssm set %NAME% AppRotateBytes 10485760
nssm set %NAME% AppExit Default Restart
rem Exit 2, 3, 4 and 6 mean that somebody must mend something: starting again would not.
for %%E in (2 3 4 6) do nssm set %NAME% AppExit %%E Exit
rem It runs as LocalSystem. That account and the administrators should be the only ones that can read the credentials:
rem   icacls credentials.json /inheritance:r /grant:r *S-1-5-18:R *S-1-5-32-544:F
nssm start %NAME%
