B
deviation2Jzà‹?