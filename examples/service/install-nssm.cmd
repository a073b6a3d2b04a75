@echo off
rem A worker as a Windows service, by NSSM. Run it once, as administrator, in the folder of agent.py.
rem The service stops with Ctrl+C, which drains: give it longer than the drain timeout (75 s here).
setlocal
set NAME=useragent
set HOME_DIR=%~dp0
nssm install %NAME% python -m user_agent_sdk run agent.py -w 4 -r --drain-timeout 60
nssm set %NAME% AppDirectory "%HOME_DIR%"
nssm set %NAME% AppStopMethodConsole 75000
nssm set %NAME% AppStopMethodSkip 14
nssm set %NAME% AppStderr "%HOME_DIR%useragent.log"
nssm set %NAME% AppRotateFiles 1
nssm set %NAME% AppRotateBytes 10485760
nssm set %NAME% AppExit Default Restart
rem Exit 2, 3, 4 and 6 mean that somebody must mend something: starting again would not.
for %%E in (2 3 4 6) do nssm set %NAME% AppExit %%E Exit
rem The service's own account should be the only one that can read the credentials:
rem   icacls credentials.json /inheritance:r /grant:r "NT SERVICE\useragent:R"
nssm start %NAME%
