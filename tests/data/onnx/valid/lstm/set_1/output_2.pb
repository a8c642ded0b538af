B
yc_forwardJ0ys¿JQd>úÛ¯>¼b>,D®¿õ¾¹¾¨=Â£:¾þU?<In¿ØA£½è9c>