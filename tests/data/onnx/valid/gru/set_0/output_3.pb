B
yh_reverseJ øö\?GÐB¾7Î>|»M¿|Ï.>TÐ>Í?¾g­¾