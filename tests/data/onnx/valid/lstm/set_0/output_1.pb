B
yh_forwardJ vVs>²V=úÐ!½8TÂ=Ë¾=}r˜½õ*n½Ÿ’]½